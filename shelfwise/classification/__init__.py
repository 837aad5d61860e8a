"""Which category is it: classifiers over title, description and picture, their combination and evaluation."""
