"""Telemetry: spans and metrics of every call, exported over OTLP when an endpoint is set."""
