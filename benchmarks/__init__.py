"""What Flask-Ecotone costs, measured beside a floor and beside its peers.

``python -m benchmarks`` runs everything, ``python -m benchmarks dispatch`` one file,
which is also ``python -m benchmarks.dispatch``.
"""
