"""How data comes in: raw reviews or a behaviour log -> samples -> encoded arrays -> batches."""
