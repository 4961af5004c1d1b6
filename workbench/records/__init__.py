"""What is recorded: the call log, the tape and journal of answers, and outgoing connections."""
