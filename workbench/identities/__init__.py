"""Identity providers: the operating system asserts a name, and a verified token authenticates one."""
