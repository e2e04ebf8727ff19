"""What several tests share: paths, pictures, processes."""
