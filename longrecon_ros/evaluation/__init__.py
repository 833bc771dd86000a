"""How good a result is: trajectories and depth maps against the truth."""

from .association import Pairs, associate, path_length
from .depth import DepthScore, DepthScores, fit_truth
from .summary import Evaluation, evaluate
from .trajectory import Drift, Rpe, Statistics, align, ate, kitti_drift, rpe

__all__ = ['align', 'associate', 'ate', 'DepthScore', 'DepthScores', 'Drift', 'evaluate',
           'Evaluation', 'fit_truth', 'kitti_drift', 'Pairs', 'path_length', 'Rpe', 'rpe',
           'Statistics']
