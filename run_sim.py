from sim.cli import main

if __name__ == "__main__":  # a process that runs a part of the work imports this, too
    main()
