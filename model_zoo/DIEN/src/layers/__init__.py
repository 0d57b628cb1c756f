"""What DIEN is made of. Nothing here needs more than torch: with this folder's parent on the path, it stands alone."""
