"""Rows as tensors: tokens, chats, pixels, augmentation, batches, packs."""
