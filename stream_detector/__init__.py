"""Real-time anomaly detection for MQTT telemetry."""

__version__ = "0.2.0"
