"""Boxes and masks: COCO, VOC, YOLO, folders of masks, tables; and how they are drawn."""
