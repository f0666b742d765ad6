"""Front's ports, on MongoDB and on PyJWT."""
