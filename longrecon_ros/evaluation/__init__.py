"""How good a result is: trajectories and depth maps against the truth."""

from .association import associate, Pairs, path_length
from .depth import DepthScore, DepthScores
from .link_scale import link_scales, LinkScales, WindowCentres
from .summary import evaluate, Evaluation
from .trajectory import align, ate, Drift, kitti_drift, Rpe, rpe, Statistics

__all__ = ['align', 'associate', 'ate', 'DepthScore', 'DepthScores', 'Drift', 'evaluate',
           'Evaluation', 'kitti_drift', 'link_scales', 'LinkScales', 'Pairs',
           'path_length', 'Rpe', 'rpe', 'Statistics', 'WindowCentres']
