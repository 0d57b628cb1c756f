"""Parts that the models compared with DIEN share.

They read histories and pooled features, and provide the final MLP.
"""
