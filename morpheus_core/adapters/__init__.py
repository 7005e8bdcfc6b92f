"""Trained models of PyTorch, Keras, ONNX and scikit-learn as callables for `predict`.

Every adapter does the same steps with a batch, in this order:

1. The bands of all images are stacked into one tensor, or each image becomes a tensor of its own
   (``stack_inputs=False``). Pixels become float32.
2. NaN is filled (``fill_nan``), in the units of the image.
3. Pixels are normalized (``normalize``), each tensor on its own.
4. The tensors get the layout of the network (``channels``) and go through it. A network of fixed
   batch size gets pieces of that size, the last of them padded.
5. Scores become (batch, height, width, classes), or (batch, classes), of float32, and go through
   the activation (``activation``).

A network is loaded at the first call, and what is loaded is never pickled: adapters travel to other
processes and load it there, on the device that they find.
"""

from morpheus_core.adapters.augmentation import test_time_augmentation
from morpheus_core.adapters.files import load_model
from morpheus_core.adapters.keras import keras_model
from morpheus_core.adapters.normalizers import min_max, standardize, z_score
from morpheus_core.adapters.onnx import onnx_model
from morpheus_core.adapters.priors import adjust_priors
from morpheus_core.adapters.pytorch import torch_model
from morpheus_core.adapters.sklearn import sklearn_model

__all__ = [
    "adjust_priors",
    "keras_model",
    "load_model",
    "min_max",
    "onnx_model",
    "sklearn_model",
    "standardize",
    "test_time_augmentation",
    "torch_model",
    "z_score",
]
