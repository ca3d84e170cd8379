"""What every room uses: configs, files, paths, locks, machines."""
