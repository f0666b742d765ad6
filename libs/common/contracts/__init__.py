"""The bodies of calls between services: caller and callee import the same classes."""
