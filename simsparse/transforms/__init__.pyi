# What `simsparse.transforms` offers; each name is loaded on first use.
from .by_name import apply_method as apply_method
from .by_name import methods as methods
from .depth import drop_layers as drop_layers
from .dynamic_masks import dynamic_masks as dynamic_masks
from .megatron import tensor_parallel as tensor_parallel
from .offload import offload as offload
from .patterns import put_patterns as put_patterns
from .patterns import with_sparsity as with_sparsity
from .quantization import quantize_weights as quantize_weights
from .slicing import slice_model as slice_model
from .stages import pipeline as pipeline
