"""The pages of docs/reference: a module a page; what each says comes from the code."""
