"""The Köppen-Geiger climates: the color of each on a map, and what its letters stand for."""

# Colors of Beck et al. 2018 (Scientific Data 5:180214). They have no As, which here shares the
# color of Aw. Names follow theirs, shortened.
KOEPPEN = {
  'Af': ('#0000ff', 'tropical rainforest'), 'Am': ('#0078ff', 'tropical monsoon'),
  'Aw': ('#46aafa', 'savanna, dry winter'), 'As': ('#46aafa', 'savanna, dry summer'),
  'BWh': ('#ff0000', 'hot desert'), 'BWk': ('#ff9696', 'cold desert'),
  'BSh': ('#f5a500', 'hot steppe'), 'BSk': ('#ffdc64', 'cold steppe'),
  'Csa': ('#ffff00', 'temperate, dry hot summer'), 'Csb': ('#c8c800', 'temperate, dry warm summer'),
  'Csc': ('#969600', 'temperate, dry cold summer'),
  'Cwa': ('#96ff96', 'temperate, dry winter, hot summer'),
  'Cwb': ('#64c864', 'temperate, dry winter, warm summer'),
  'Cwc': ('#329632', 'temperate, dry winter, cold summer'),
  'Cfa': ('#c8ff50', 'temperate, hot summer'), 'Cfb': ('#64ff50', 'temperate, warm summer'),
  'Cfc': ('#32c800', 'temperate, cold summer'),
  'Dsa': ('#ff00ff', 'cold, dry hot summer'), 'Dsb': ('#c800c8', 'cold, dry warm summer'),
  'Dsc': ('#963296', 'cold, dry cold summer'), 'Dsd': ('#966496', 'cold, dry very cold winter'),
  'Dwa': ('#aaafff', 'cold, dry winter, hot summer'),
  'Dwb': ('#5a78dc', 'cold, dry winter, warm summer'),
  'Dwc': ('#4b50b4', 'cold, dry winter, cold summer'),
  'Dwd': ('#320087', 'cold, dry very cold winter'),
  'Dfa': ('#00ffff', 'cold, hot summer'), 'Dfb': ('#37c8ff', 'cold, warm summer'),
  'Dfc': ('#007d7d', 'cold, cold summer'), 'Dfd': ('#00465f', 'cold, very cold winter'),
  'ET': ('#b2b2b2', 'tundra'), 'EF': ('#666666', 'ice cap'),
}  # fmt: skip
