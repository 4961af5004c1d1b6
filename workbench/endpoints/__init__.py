"""The state of each model endpoint: its rates, its queue and its circuit breaker."""
