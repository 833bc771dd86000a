"""Classical reconstruction of one window of images: the parts behind the ``sfm`` backbone."""
