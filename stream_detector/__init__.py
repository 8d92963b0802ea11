"""Real-time anomaly detection for MQTT telemetry."""

__version__ = "0.1.0"
