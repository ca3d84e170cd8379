"""Tables, figures and pages, from result files."""
