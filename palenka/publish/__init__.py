"""What leaves this machine: a model's repository on the Hugging Face Hub, and the form of a submission."""
