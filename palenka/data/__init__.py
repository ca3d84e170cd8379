"""From text on the web or the disk to tokens and windows."""
