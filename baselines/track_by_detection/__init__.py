"""Track by detection: any per-frame open-vocabulary segmenter, and a tracker that links its detections."""
