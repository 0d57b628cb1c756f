"""A trained model as one file that runs elsewhere: ONNX, or a program of `torch.export`.

Here are the forward pass that can be exported, what runs its recurrences in each form, and the files. Nothing here
knows of bundles or servers.
"""
