// Maps of colours for numbers.

// With straight lines between them. Those of matplotlib have every fifth of its 256 colours, blue to red as its RdBu_r
// (https://matplotlib.org/stable/users/explain/colors/colormaps.html).
const ANCHORS = {
  grey: "000000ffffff",
  viridis:
    "44015446085c471063481769481d6f482475472a7a46307e453781433d844142873f48893d4e8a3a538b38598c355e8d33638d31" +
    "688e2e6d8e2c718e2a768e297b8e27808e25848e23898e218e8d20928c1f978b1e9c891fa18821a58524aa8328ae802eb37c35b7" +
    "793dbc7446c06f50c46a5ac86465cb5e70cf577cd25089d54895d840a2da37b0dd2fbddf26cae11fd8e219e5e419f1e51dfde725",
  magma:
    "00000402020b0504160907200e0b2b140e361a104221114e29115a311165390f6e420f754a107952137c5a167e6219806a1c8172" +
    "1f81792282812581892881912b81992d80a1307eaa337db2357bba3878c23b75ca3e72d2426fd9466be04c67e75263ec5860f160" +
    "5df4695cf7725cf97b5dfb8560fc8e64fd9869fea16efeaa74feb47bfebd82fec68afecf92fed89afde2a3fdebacfcf4b6fcfdbf",
  inferno:
    "00000402020c0504170a072210092d160b391e0c45260c512f0a5b380962400a67490b6a510e6c59106e61136e69166e71196e78" +
    "1c6d801f6c88226a902568982766a02a63a82e5fb0315bb73557bf3952c63d4dcc4248d34743d94d3ddf5337e45a31e9612bed69" +
    "25f1711ff47918f78212f98b0bfa9407fb9d07fca60cfcb014fbba1ffac42af8cd37f6d746f4e156f2ea69f2f27df5f992fcffa4",
  cividis:
    "00224e002656002a5f002d68003070083370163770203a6f273e6e2e416d34456c3a486c3f4c6c444f6c49536c4e566c535a6d57" +
    "5d6d5c616e60646f656870696b716d6f727272747676767a7a787e7d788381798885788d8878928c789690779b9476a09875a59c" +
    "74aaa073afa471b5a86fbaac6dbfb06bc4b468c9b965cfbd62d4c15fdac65bdfca57e5cf52ead34cf0d846f6dd3ffce236fee838",
  turbo:
    "30123b36215f3b2f803f3e9c424bb54559cb4666dd4773eb4680f6458cfd4099ff38a5fb2fb2f427bee91fc9dd1ad4d018ddc21a" +
    "e4b622ebaa2ff19b3ff68a52fa7a65fd6979fe598bff4b9cfe40a9fb39b7f735c3f134d0ea34dbe236e5d938eecf3af5c53afaba" +
    "39fdae35fea130fe932afc8423f9751df46617ef5811e84b0ce14109d83706ce2d04c32503b71d02a916019b0f018b09027a0403",
  heat: "000000550000aa0000ff0000ff5500ffaa00ffff00ffff80ffffff",
  "blue to red":
    "0530610a3b7010457e15508d1b5a9c2065ab276eb02e77b53480b93b88be4291c24f9bc75fa5cd6eaed27eb8d78dc2dc9bc9e0a7" +
    "d0e4b3d6e8c0dcebcce2efd5e7f1ddebf2e4eef4ecf2f5f3f5f6f8f4f2f9efe9fae9dffbe4d6fcdecdfcd7c2fbccb4f9c2a7f7b7" +
    "99f5ac8bf2a17fec9374e6866ae17860db6b55d55d4cce4f45c6413ebf3338b82531b1182ba21328930e2684092476052167001f",
};

// What some are called besides.
const SYNONYMS = { gray: "grey", "blue-red": "blue to red" };

export const COLOUR_MAPS = Object.keys(ANCHORS);

// Returns the map that is called so, or `otherwise`.
export function findColourMap(name, otherwise) {
  return COLOUR_MAPS.find((each) => each === name || each === SYNONYMS[name]) ?? otherwise;
}

// Returns 256 colours as ImageData takes them in a Uint32Array: red in the lowest byte, opaque.
export function makeColours(name, isInverted = false) {
  const text = ANCHORS[name];
  const last = text.length / 6 - 1;
  const channel = (anchor, index) => parseInt(text.slice(anchor * 6 + index * 2, anchor * 6 + index * 2 + 2), 16);
  const colours = new Uint32Array(256);
  for (let index = 0; index < 256; index += 1) {
    const at = (index / 255) * last;
    const below = Math.min(Math.floor(at), last - 1);
    const [red, green, blue] = [0, 1, 2].map((each) => {
      const from = channel(below, each);
      return Math.round(from + (channel(below + 1, each) - from) * (at - below));
    });
    colours[isInverted ? 255 - index : index] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  }
  return colours;
}

// Draws a map of colours from its low to its high end.
export function drawScale(canvas, colours) {
  canvas.width = 256;
  canvas.height = 1;
  const image = new ImageData(256, 1);
  new Uint32Array(image.data.buffer).set(colours);
  canvas.getContext("2d").putImageData(image, 0, 0);
}
