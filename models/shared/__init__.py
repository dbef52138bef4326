"""What several models share: windows of frames, preprocessing, text embeddings, selection and encoding of masks."""
