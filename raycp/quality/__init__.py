"""How good purification is: distances between images and between sets of images, with intervals. No files, no networks.

Every metric is the mean over images of a column of numbers, one per image. A mean distance is that by itself; the
Frechet distance and the optimal transport are given by the sum of their value and the image's first-order influence
on it. One bootstrap of means then serves all of them, alone and in pairs of methods.
"""
