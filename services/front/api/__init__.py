"""Front over HTTP: the public API, and the port that job reports to."""
