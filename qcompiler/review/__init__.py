"""Models under version control: what a pull request, a push or a commit changes in them."""
