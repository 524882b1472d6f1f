"""Ways of saving a model: ``table`` has the list, ``document`` the document made from it, each other file some of the ways."""
