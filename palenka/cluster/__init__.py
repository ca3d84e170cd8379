"""SLURM jobs, studies, and where runs stand."""
