"""The typed configuration of a run: recipes, their sections, and studies of one recipe in several arms."""

from glt.recipe.data import ChecksConfig as ChecksConfig
from glt.recipe.data import DataConfig as DataConfig
from glt.recipe.recipe import Recipe as Recipe
from glt.recipe.recipe import flat as flat
from glt.recipe.recipe import load as load
from glt.recipe.recipe import names as names
from glt.recipe.recipe import parse as parse
from glt.recipe.recipe import short_text as short_text
from glt.recipe.recipe import with_changes as with_changes
from glt.recipe.section import Section as Section
from glt.recipe.section import Seed as Seed
from glt.recipe.sections import AugmentConfig as AugmentConfig
from glt.recipe.sections import FinetuneConfig as FinetuneConfig
from glt.recipe.sections import GateConfig as GateConfig
from glt.recipe.sections import ModelConfig as ModelConfig
from glt.recipe.sections import MotionConfig as MotionConfig
from glt.recipe.sections import Pool as Pool
from glt.recipe.sections import PretrainConfig as PretrainConfig
from glt.recipe.sections import ProbeConfig as ProbeConfig
from glt.recipe.sections import RetrainConfig as RetrainConfig
