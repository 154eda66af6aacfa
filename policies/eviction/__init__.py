NAMES = {"two_q": "2q"}  # modules whose policy has a name that is no Python identifier
