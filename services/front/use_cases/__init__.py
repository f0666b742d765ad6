"""What front does, without a framework: create, read, settle, recover, sweep."""
