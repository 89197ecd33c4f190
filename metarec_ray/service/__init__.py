"""The HTTP application, its client and its settings. Knows HTTP; does not know ray."""
