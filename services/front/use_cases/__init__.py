"""What front does, told without a framework: create, read, settle, recover, sweep."""
