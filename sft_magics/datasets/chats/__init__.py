"""Instructions and chats: the forms in which they are written, and their rows."""
