"""Run directories.

    directory.py     a run's folder: its lock, its files, whether it can go on
    identity.py      what decides its outcome                checkpoints.py   its checkpoints, checked
    records.py       its metrics, line by line               milestones.py    its revisions
    ledger.py        the words it may have learned from
"""
