"""`make bench`: Gristmill and its peers, side by side on this machine, in ratios. See RESULTS.md beside this file."""
