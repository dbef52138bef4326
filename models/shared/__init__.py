"""Code shared by models: windows of frames, preprocessing, text embeddings, selection and encoding of masks."""
