"""Measure images and models; each number is written down with all that it depends on."""

COMMANDS = {
    "reference": "the statistics of a data set, which images are measured against",
    "fid": "FID, KID, precision, recall and more, of a model or of images",
    "bpd": "the bits per dimension of images under a model",
    "compare": "say whether two records may be compared, and their scores side by side",
}
