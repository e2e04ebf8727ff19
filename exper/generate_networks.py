from pascal_scribble.generate_networks import main

if __name__ == "__main__":
    raise SystemExit(main())
