# placeholder: replaced by the CLI helper
