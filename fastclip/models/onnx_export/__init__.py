"""Exporting both towers to ONNX, with the settings of their inputs, for programs without torch.

layouts         the places of files and the names of inputs, for immich and for rclip
tower_graph     writing one tower to a file
runtime         comparing the file in onnxruntime with torch
int8            converting a tower to 8-bit weights
settings_files  writing preprocessing, tokenizer and configuration
packages        checking which packages are installed
export          exporting a model to a folder, completely or not at all
"""
