"""What Gristmill is made of: lists of its parts (SBOM), their licences, and what is known against them."""
