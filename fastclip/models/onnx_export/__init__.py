"""Both towers as ONNX, with what prepares their inputs, for programs without torch.

layouts         where files lie and how inputs are called, for immich and for rclip
tower_graph     one tower as a file
runtime         what onnxruntime makes of the file, beside torch
int8            products and tables of 8-bit weights
settings_files  preprocessing, tokenizer and configuration
packages        what must be installed
export          a model to a folder, all of it or nothing
"""
