"""The pure core: records go in, events come out."""
