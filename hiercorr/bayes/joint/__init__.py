"""One posterior of all genes of a panel at every level, by data augmentation.

``model`` states the posterior and lays out its arrays, ``sampler`` runs chains until every
parameter that is reported has enough effective draws, ``tables`` makes a result of the draws.
"""
