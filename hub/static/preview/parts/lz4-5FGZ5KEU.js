import"./chunk-ZUM4OFYD.js";var l=null;export{l as default};
