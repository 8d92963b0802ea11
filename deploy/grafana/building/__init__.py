"""The dashboards as code: a module a dashboard, and `panels` with what they share."""
