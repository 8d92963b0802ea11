"""MQTT: one thread, one connection, bytes in and bytes out.

Nothing here knows what a reading or an alert is: topics and payloads are bytes.
"""
